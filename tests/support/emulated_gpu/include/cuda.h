// Generated sources include this; what they need of it is in emulated.h.
