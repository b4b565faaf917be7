package dev.toolkit.trainer

import android.content.Context
import android.content.Intent
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.RestartReceiver
import dev.toolkit.trainer.service.TrainingService
import org.junit.After
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.rules.TemporaryFolder
import org.robolectric.Robolectric
import org.robolectric.android.controller.ServiceController

/** The app with a run "a" that lasts longer than any test, and its service, both ended after each test. */
abstract class ServiceCase {
    @get:Rule val temporary = TemporaryFolder()
    protected lateinit var app: TrainerApp
    protected var service: ServiceController<TrainingService>? = null

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
    }

    @After
    fun end() {
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        Fixtures.idle()
        service?.destroy()
    }

    protected fun start(intent: Intent?) {
        val created = Robolectric.buildService(TrainingService::class.java, intent).create()
        service = created
        created.get().onStartCommand(intent, 0, 1)
        Fixtures.settle(app)
    }

    protected fun send(action: String, run: String) {
        service!!.get().onStartCommand(TrainingService.intent(app, action, run), 0, 2)
        Fixtures.settle(app)
    }

    /** As the system hands it to the app. */
    protected fun receive(context: Context, intent: Intent) {
        RestartReceiver().onReceive(context, intent)
        Fixtures.settle(app)
    }

    protected fun train() = await("a step") { (app.controller.active?.progress?.step ?: 0) > 0 && app.controller.active?.doing == Doing.TRAINING }
}
