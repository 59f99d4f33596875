"""Run every benchmark and print its table."""

import asyncio

from benchmarks import batching, request

request.main()
asyncio.run(batching.main())
