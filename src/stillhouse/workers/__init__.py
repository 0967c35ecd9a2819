"""Child processes: launch, framed messages, memory limits, and a pool of workers."""
