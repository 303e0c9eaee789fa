import sys

from attention_refine.vqa.evaluate import main

sys.exit(main())
