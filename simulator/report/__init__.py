"""What the report says of collision heads, handed over as one record.

record    `COLLISION_HEADS`: score, tests, words (`words.toml`), sections and picture
scene     particles with one head's attention: the still and what the animation plays
sections  attention against distance, a head at work, the network as a simulator
"""
