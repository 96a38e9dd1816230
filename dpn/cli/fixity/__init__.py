"""`dpn fixity` and `dpn drill`: are our copies, and those that others keep for us, intact?"""
