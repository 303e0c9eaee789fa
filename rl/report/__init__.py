"""What a run writes about itself: metrics, grids, summary and the report page."""
