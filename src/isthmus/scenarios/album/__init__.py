"""Which of their own photos will a person enjoy? Phones hold pictures and behaviour; only masked sums of updates leave them."""
