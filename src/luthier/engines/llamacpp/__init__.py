"""llama.cpp: one process per base model, its server, its watchdog."""
