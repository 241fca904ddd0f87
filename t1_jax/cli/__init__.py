"""Floor 5: the command `t1`. One file a command, each a thin call of a lower floor.

Nothing heavy is imported when the command starts: each command imports what it needs when it runs.
"""
