"""The model that is tuned: weights, device, memory plan, head, loss, optimizer."""
