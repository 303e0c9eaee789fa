import sys

from attention_refine.probes.probe import main

sys.exit(main())
