"""Use cases. They open transactions and use ports; they know no HTTP and no implementation of a port."""
