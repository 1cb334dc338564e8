"""Networks; whoever needs one hands it in."""
