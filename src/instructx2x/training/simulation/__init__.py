"""Simulated lesions: real X-rays into which a finding is painted where, and as dense as, the instruction says.

`chest` describes one patient's thorax in coordinates of the lungs; `painters` holds one function per finding with the
physics of that finding; `lesions` draws a lesion at random and keeps what was drawn, so that the words, the side, the
level and the true region of every pair are known.
"""
