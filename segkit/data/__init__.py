"""Labelled images: readers, the full_semantic archive and data set, transforms, tf.data batches."""
