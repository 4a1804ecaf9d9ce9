"""One module of queries per noun, used by `service`. Each function takes an open transaction first and never commits; a
function that writes needs one of `Database.writing`, since one of `Database.reading` is rolled back.
"""
