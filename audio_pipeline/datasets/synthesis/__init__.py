"""Physically grounded synthetic sounds with exact labels.

Two structurally different families of joint sounds (one is always held out to see whether what
was learnt carries over), a third of everyday sounds, the channel from joint to file, and scenes.
Synthetic figures are no evidence about real recordings; they are a way to get there.
"""
