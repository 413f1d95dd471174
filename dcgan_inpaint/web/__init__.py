"""A page in the browser on which holes in photographs are painted and filled.

`opening` reads what a visitor gives, `filling` fills it in a process of its own
(`worker`), `page` is the layout and what its controls do, in Gradio, and
`server` serves it, behind `guard`. Only `page` and `server` need the extra
`web`.
"""
