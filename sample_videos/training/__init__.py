"""Synthetic people, for developers: they make the sample videos and train the bundled pose model.

Run from a checkout, and not part of the installed package:

``python -m sample_videos.training.train``     render frames, train both networks, export them
``python -m sample_videos.training.evaluate``  measure the bundled model
``python -m sample_videos.training.samples``   make the sample videos again
``python -m sample_videos.training.labelled``  make 160 short labelled clips, to try ``probe`` on
"""
