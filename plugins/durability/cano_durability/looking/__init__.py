"""Looking at single runs, from any process, without executing them."""
