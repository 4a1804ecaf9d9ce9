"""What Luthier's processes share: logging, child environments, private folders and their lock, compiled C++."""
