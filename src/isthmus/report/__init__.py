"""The report of a job: one typed model, and HTML and JSON made from it with the same figures."""
