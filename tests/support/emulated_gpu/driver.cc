// libcuda and libcudart with what TVM's CUDA runtime calls, on a CPU and in main memory.
// A module's image is the path of a library made from generated code and emulated.h.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <map>
#include <string>

struct dim3 { unsigned x, y, z; };
typedef void (*Entry)(void**, dim3, dim3);

namespace {

size_t used, limit = size_t(8) << 30;
std::map<void*, size_t> sizes;
int capability_major = 9, capability_minor = 0, devices = 1, driver_version = 13000;
long launches;

enum { SUCCESS = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_IMAGE = 209, NOT_FOUND = 500 };

struct LaunchConfig {  // CUlaunchConfig
  unsigned grid[3], block[3], shared;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

}  // namespace

extern "C" {

// For tests.
void emulated_set_memory(size_t bytes) { limit = bytes; }
void emulated_set_capability(int major, int minor) { capability_major = major, capability_minor = minor; }
void emulated_set_devices(int count) { devices = count; }
void emulated_set_driver(int version) { driver_version = version; }
long emulated_launches() { return launches; }

// libcuda
int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { return *version = driver_version, SUCCESS; }
int cuDeviceGetCount(int* count) { return *count = devices, SUCCESS; }
int cuModuleLoadData(void** module, const char* image) {
  if (image[0] != '/') return NO_IMAGE;
  *module = dlopen(image, RTLD_NOW | RTLD_LOCAL);
  if (!*module) fprintf(stderr, "%s\n", dlerror());
  return *module ? SUCCESS : NO_IMAGE;
}
int cuModuleUnload(void*) { return SUCCESS; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = dlsym(module, (std::string("emulated_") + name).c_str());
  return *function ? SUCCESS : NOT_FOUND;
}
int cuLaunchKernelEx(const LaunchConfig* c, void* function, void** arguments, void**) {
  if (c->block[0] * c->block[1] * c->block[2] > 1024) return INVALID;
  if (c->grid[1] > 65535 || c->grid[2] > 65535) return INVALID;
  ++launches;
  ((Entry)function)(arguments, {c->grid[0], c->grid[1], c->grid[2]},
                    {c->block[0], c->block[1], c->block[2]});
  return SUCCESS;
}
int cuFuncSetAttribute(void*, int, int) { return SUCCESS; }
int cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "emulated"), SUCCESS; }
int cuGetErrorName(int code, const char** text) {
  *text = code == NO_IMAGE ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : "CUDA_ERROR";
  return SUCCESS;
}
int cuGetErrorString(int, const char** text) { return *text = "an emulated error", SUCCESS; }
int cuTensorMapEncodeTiled() { return INVALID; }

// libcudart
int cudaGetDeviceCount(int* count) { return *count = devices, SUCCESS; }
int cudaGetDevice(int* device) { return *device = 0, SUCCESS; }
int cudaSetDevice(int device) { return device < devices ? SUCCESS : 101; }
int cudaDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 75: *value = capability_major; break;
    case 76: *value = capability_minor; break;
    case 1: *value = 1024; break;
    case 10: *value = 32; break;
    case 8: *value = 48 << 10; break;
    default: *value = 1;
  }
  return SUCCESS;
}
int cudaGetDeviceProperties(void* properties, int) {
  memset(properties, 0, 256);
  return SUCCESS;
}
int cudaMalloc(void** at, size_t size) {
  if (used + size > limit) return OUT_OF_MEMORY;
  if (posix_memalign(at, 256, size ? size : 1)) return OUT_OF_MEMORY;
  memset(*at, 0xa5, size);  // what a kernel forgets to write shows
  sizes[*at] = size;
  used += size;
  return SUCCESS;
}
int cudaFree(void* at) {
  used -= sizes[at];
  sizes.erase(at);
  free(at);
  return SUCCESS;
}
int cudaMallocHost(void** at, size_t size) { return (*at = malloc(size)) ? SUCCESS : OUT_OF_MEMORY; }
int cudaFreeHost(void* at) { return free(at), SUCCESS; }
int cudaMemGetInfo(size_t* free, size_t* total) {
  *free = limit - used, *total = limit;
  return SUCCESS;
}
int cudaMemcpyAsync(void* to, const void* from, size_t size, int, void*) {
  memmove(to, from, size);
  return SUCCESS;
}
int cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, void*) {
  memmove(to, from, size);
  return SUCCESS;
}
const char* cudaGetErrorName(int code) {
  return code == OUT_OF_MEMORY ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(int code) { return code == OUT_OF_MEMORY ? "out of memory" : "error"; }
int cudaGetLastError() { return SUCCESS; }
int cudaPeekAtLastError() { return SUCCESS; }
int cudaEventCreate(void** event) { return *event = malloc(sizeof(timespec)), SUCCESS; }
int cudaEventDestroy(void* event) { return free(event), SUCCESS; }
int cudaEventRecord(void* event, void*) {
  return clock_gettime(CLOCK_MONOTONIC, (timespec*)event), SUCCESS;
}
int cudaEventSynchronize(void*) { return SUCCESS; }
int cudaEventElapsedTime(float* ms, timespec* start, timespec* end) {
  *ms = (end->tv_sec - start->tv_sec) * 1e3f + (end->tv_nsec - start->tv_nsec) * 1e-6f;
  return SUCCESS;
}
int cudaStreamCreate(void** stream) { return *stream = malloc(8), SUCCESS; }
int cudaStreamCreateWithFlags(void** stream, unsigned) { return *stream = malloc(8), SUCCESS; }
int cudaStreamDestroy(void* stream) { return free(stream), SUCCESS; }
int cudaStreamSynchronize(void*) { return SUCCESS; }
int cudaStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }
int cudaStreamBeginCapture(void*, int) { return 801; }
int cudaStreamEndCapture(void*, void**) { return 801; }
int cudaGraphInstantiate(void**, void*, uint64_t) { return 801; }
int cudaGraphLaunch(void*, void*) { return 801; }
int cudaGraphDestroy(void*) { return SUCCESS; }
int cudaGraphExecDestroy(void*) { return SUCCESS; }

}  // extern "C"
