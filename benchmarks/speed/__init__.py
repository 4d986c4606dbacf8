"""How fast is it, beside peers and beside what the machine can do?"""
