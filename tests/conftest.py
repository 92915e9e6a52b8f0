"""What all tests share: the same examples every time, unless asked to explore."""

from hypothesis import settings

# A change is judged on the examples that the last one passed; new ones are looked for with
# `pytest --hypothesis-profile=explore`.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("steady")
