"""What an OpenAI-compatible server must do, as checks that can be pointed at any of them.

Begin with check.py (what a check is) and target.py (the server it looks at); the checks stand in one file a section.
"""
