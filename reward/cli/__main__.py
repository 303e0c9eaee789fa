import sys

from reward.cli.main import main

sys.exit(main())
