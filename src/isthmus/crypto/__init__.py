"""Ciphers and curves: pure functions over bytes and integers, no I/O. Security floors live here; no caller can lower them."""
