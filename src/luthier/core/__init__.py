"""Pure nouns of the service: values, states, ids, errors, ports. Standard library only."""
