// Only so that the precompiled header of Torch has an owner.
