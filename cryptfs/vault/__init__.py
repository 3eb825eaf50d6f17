"""One open vault: the moving parts between the tree and the store."""
