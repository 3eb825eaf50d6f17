# fish completion for cryptfs-admin: the program itself knows its commands.
env _CRYPTFS_ADMIN_COMPLETE=fish_source cryptfs-admin | source
