"""Plain local maths on numpy: bins, histograms, trees, weight of evidence, metrics. No network, no ciphers."""
