"""Who will miss the next card payment: the bank knows bills and payments, the partner the repayment status."""
