"""What everyone may know: errors, clock, randomness by label, canonical documents, threads, progress."""
