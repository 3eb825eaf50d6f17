# bash completion for cryptfs-admin: the program itself knows its commands. Loaded at the first Tab by bash-completion,
# or from ~/.bashrc by `source`.
eval "$(_CRYPTFS_ADMIN_COMPLETE=bash_source cryptfs-admin)"
