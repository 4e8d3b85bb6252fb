// trace.h -- where the compiler's hooks meet the tracer.
#pragma once
#include "emulator/tracer.h"

namespace fastconv::emulator {

/// Instrumented code reads or writes memory; `code` is where it goes on.
void trace_access(const void* address, size_t bytes, Access kind, const void* code);

}  // namespace fastconv::emulator
