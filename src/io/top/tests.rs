//! Pure: tests of the view, by pictures.
