"""Run every benchmark and print its table."""

import asyncio

from benchmarks import batching, models, request

asyncio.run(batching.main())
models.main()
request.main()
