"""Tables of pictures as people have them: CSV, JSON lines, Parquet, `datasets`, WebDataset shards; read row by row."""
