plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

// One folder per ABI, each an ExecuTorch install: -Pexecutorch.android=/path, or gradle.properties.
val executorch = providers.gradleProperty("executorch.android").orNull

android {
    namespace = "dev.toolkit.trainer"
    compileSdk = 36
    ndkVersion = "28.2.13676358"

    defaultConfig {
        applicationId = "dev.toolkit.trainer"
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
        if (executorch != null) {
            externalNativeBuild {
                cmake {
                    targets += "toolkit_jni"
                    // The libraries of ExecuTorch are static; C++ of the NDK goes in with them, once.
                    arguments += listOf(
                        "-DANDROID_STL=c++_static",
                        "-DTOOLKIT_EXECUTORCH_ANDROID=$executorch",
                        "-DCMAKE_BUILD_TYPE=Release",
                    )
                }
            }
        }
    }

    if (executorch != null) {
        externalNativeBuild {
            cmake {
                path = file("../../toolkit/runtime/CMakeLists.txt")
                version = "3.28.0+"
            }
        }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"), "proguard-rules.pro")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    sourceSets["main"].kotlin.srcDir("src/main/kotlin")
    sourceSets["main"].jniLibs.srcDir("../../build/android/jniLibs")
    sourceSets["main"].assets.srcDir("../../build/android/assets")
    sourceSets["test"].kotlin.srcDir("../../tests/android/kotlin")
    sourceSets["test"].resources.srcDir("../../tests/android/resources")

    testOptions {
        unitTests {
            isIncludeAndroidResources = true
            all {
                // `make android` builds the engine for this machine and the fixtures first.
                it.systemProperty("java.library.path", rootDir.resolve("../build/android/native").path)
                it.systemProperty("toolkit.fixtures", rootDir.resolve("../build/android/fixtures").path)
                it.systemProperty("toolkit.screenshots", rootDir.resolve("../build/android/screenshots").path)
                it.systemProperty("toolkit.results", rootDir.resolve("../build/android/results").path)
                it.maxHeapSize = "3g"
                // Robolectric's file descriptors reach into java.io.
                it.jvmArgs("--add-opens", "java.base/java.io=ALL-UNNAMED", "-Djava.security.manager=allow")
                // It wants a process that finds no engine; `make android` gives it one.
                it.exclude("**/NoEngineTest*", "**/ChildEngineTest*", "**/EngineKillsTest*")
            }
        }
    }

    packaging {
        // The engine that `make android` packs is programs: the installer must unpack them, and they stay as they are.
        jniLibs.useLegacyPackaging = true
        jniLibs.keepDebugSymbols += "**/*.so"
    }
}

kotlin {
    compilerOptions {
        jvmTarget = org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_17
        allWarningsAsErrors = true
    }
}

dependencies {
    testImplementation(libs.junit)
    testImplementation(libs.robolectric)
}
