// libnvrtc for the emulated device: a program is what Python's `compile` makes of it.
#include <cstdio>
#include <cstring>
#include <string>

typedef int (*Compile)(const char* source, const char* options, char* found, size_t size);

namespace {

Compile compile;

struct Program {
  std::string source, image, log;
};

}  // namespace

extern "C" {

void emulated_nvrtc_compile(Compile function) { compile = function; }

int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char* const*,
                       const char* const*) {
  return *program = new Program{source, "", ""}, 0;
}
int nvrtcCompileProgram(void* program, int count, const char* const* options) {
  Program* p = (Program*)program;
  std::string all;
  for (int i = 0; i < count; ++i) all += std::string(options[i]) + " ";
  char found[4096] = {};
  const int status = compile(p->source.c_str(), all.c_str(), found, sizeof(found) - 1);
  (status ? p->log : p->image) = found;
  return status;
}
int nvrtcGetProgramLogSize(void* program, size_t* size) {
  return *size = ((Program*)program)->log.size() + 1, 0;
}
int nvrtcGetProgramLog(void* program, char* text) {
  return strcpy(text, ((Program*)program)->log.c_str()), 0;
}
int nvrtcGetCUBINSize(void* program, size_t* size) {
  return *size = ((Program*)program)->image.size(), 0;
}
int nvrtcGetCUBIN(void* program, char* image) {
  Program* p = (Program*)program;
  return memcpy(image, p->image.data(), p->image.size()), 0;
}
int nvrtcDestroyProgram(void** program) { return delete (Program*)*program, 0; }

}  // extern "C"
