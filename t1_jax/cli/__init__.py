"""Layer 5: the command `t1`. One file per command, each a thin call into a lower layer.

Commands import what they need when they run, so that `t1 --help` is fast.
"""
