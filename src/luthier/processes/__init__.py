"""The parts of Luthier's processes, put together from the settings: what all have, the API's, the supervisor's.

`app.py` is the door; these modules are the composition root with it.
"""
