"""Whose process this is. In a program of the user's own, Danlu changes nothing that others in it see."""

ours = False
"""Whether this process is a command of Danlu's or a worker of one, so that settings of whole libraries may be changed."""
