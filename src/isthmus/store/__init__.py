"""What a node must remember: partners, invitations, datasets, jobs, answers, events."""
