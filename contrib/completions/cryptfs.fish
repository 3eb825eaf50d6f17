# fish completion for cryptfs: the program itself knows its commands.
env _CRYPTFS_COMPLETE=fish_source cryptfs | source
