"""Update rules, which turn rewards into gradients: one file per rule."""
