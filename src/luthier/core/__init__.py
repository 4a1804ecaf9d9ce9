"""What every part of the service speaks of: values, states, ids, errors, ports. Standard library only."""
