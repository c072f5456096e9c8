//! Pure: what a comparison says, in words: which policy did best, and what it would have saved.
