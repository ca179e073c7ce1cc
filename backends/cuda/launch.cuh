// Launches that overlap the end of the kernel before (programmatic dependent launch, Hopper and later).
#pragma once
#include <cuda_runtime.h>

// Called by a kernel that `launch_after` follows, once its blocks may share the device with the next one's.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Called by every thread of a kernel that `launch_after` started, before it reads what the kernel before
// wrote and before it ends: waits until that one has ended.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Like kernel<<<…>>>, but the blocks may be started before the kernel before has ended.
template <typename... P, typename... A>
void launch_after(void (*kernel)(P...), unsigned grid, unsigned block, int shared, cudaStream_t stream, A... args) {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid);
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = size_t(shared);
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = major >= 9 ? 1 : 0;
    cudaLaunchKernelEx(&config, kernel, P(args)...);
}
