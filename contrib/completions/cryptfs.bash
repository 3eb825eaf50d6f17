# bash completion for cryptfs: the program itself knows its commands. Loaded at the first Tab by bash-completion,
# or from ~/.bashrc by `source`.
eval "$(_CRYPTFS_COMPLETE=bash_source cryptfs)"
