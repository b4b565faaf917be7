// Stand-ins for the parts of androidx.test that Robolectric calls. The real ones are only in Google's repository,
// which the Maven build does without; the Gradle build does not use this folder.
package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

object InstrumentationRegistry {
    private var instrumentation: Instrumentation? = null
    private var arguments: Bundle? = null

    @JvmStatic
    fun registerInstance(instrumentation: Instrumentation?, arguments: Bundle?) {
        this.instrumentation = instrumentation
        this.arguments = arguments
    }

    @JvmStatic fun getInstrumentation(): Instrumentation = checkNotNull(instrumentation)

    @JvmStatic fun getArguments(): Bundle = checkNotNull(arguments)
}
