"""What every process of Luthier needs: its log, its environment, its folder and the lock on it."""
