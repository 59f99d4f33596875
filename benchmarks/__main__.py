"""Run every benchmark and print its table."""

import asyncio

from benchmarks import batching, request

asyncio.run(batching.main())
request.main()
