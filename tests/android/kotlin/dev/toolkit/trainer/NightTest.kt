package dev.toolkit.trainer

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.Intent
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.BootReceiver
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.service.Wakefulness
import dev.toolkit.trainer.store.AppFolders
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.MainActivity
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import org.robolectric.shadows.ShadowActivityManager
import org.robolectric.shadows.ShadowPowerManager
import java.io.File

/** What goes wrong in a night: kills, storage that comes late, taps by half asleep people. */
@RunWith(RobolectricTestRunner::class)
class NightTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private var service: ServiceController<TrainingService>? = null

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

    private fun start(intent: Intent?) {
        val created = Robolectric.buildService(TrainingService::class.java, intent).create()
        service = created
        created.get().onStartCommand(intent, 0, 1)
        Fixtures.idle()
    }

    private fun send(action: String, run: String) = service!!.get().onStartCommand(TrainingService.intent(app, action, run), 0, 2)

    private fun train() = await("a step") { (app.controller.active?.progress?.step ?: 0) > 0 && app.controller.active?.doing == Doing.TRAINING }

    private fun killed(attempts: Int = 0) = app.runs.save(app.runs.require("a").copy(state = RunState.RUNNING, attempts = attempts))

    private fun ended(reason: Int) = shadowOf(app.getSystemService(ActivityManager::class.java)).addApplicationExitInfo(
        ShadowActivityManager.ApplicationExitInfoBuilder.newBuilder().setProcessName("dev.toolkit.trainer").setPid(1)
            .setReason(reason).build(),
    )

    @Test
    fun `a run that ends its process again and again is not tried for ever`() {
        ended(ApplicationExitInfo.REASON_LOW_MEMORY)
        app.controller.continueInterrupted(killed(attempts = 2))
        assertEquals(3, app.runs.require("a").attempts)
        app.controller.pause()
        assertTrue(app.controller.join(30_000))
        assertEquals("it ended in its own way", 0, app.runs.require("a").attempts)

        killed(attempts = 3)
        start(null)
        assertNull(app.controller.active)
        val run = app.runs.require("a")
        assertEquals(RunState.FAILED, run.state)
        assertTrue(run.reason, "too little memory" in run.reason)
    }

    @Test
    fun `a run that saves again has its tries back`() {
        app.controller.continueInterrupted(killed(attempts = 2))
        await("saves") { app.runs.require("a").attempts == 0 }
        assertNotNull(app.controller.active)
    }

    @Test
    fun `what the user ended in the list of active apps stays ended`() {
        ended(ApplicationExitInfo.REASON_USER_REQUESTED)
        killed()
        BootReceiver().onReceive(app, Intent(Intent.ACTION_BOOT_COMPLETED))
        assertNull(shadowOf(app).nextStartedService)
        start(null)
        assertNull(app.controller.active)
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("Resume", left.actions.single().title.toString())
    }

    @Test
    fun `storage that comes late does not fail a run for good`() {
        killed()
        val mounted = AppFolders.deployedOverride
        AppFolders.deployedOverride = temporary.newFolder("empty")
        start(null)
        assertNull(app.controller.active)
        assertEquals(RunState.RUNNING, app.runs.require("a").state)
        AppFolders.deployedOverride = mounted
        send(TrainingService.CONTINUE, "a")
        train()
    }

    @Test
    fun `a pause is answered at once, and a second tap does not stop`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        app.controller.pause()
        val now = app.controller.active
        assertTrue("$now", now == null || now.isEnding)
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
    }

    @Test
    fun `a word for another run does not reach this one`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        send(TrainingService.PAUSE, "short")
        send(TrainingService.STOP, "short")
        assertFalse(app.controller.active!!.isEnding)
    }

    @Test
    fun `the processor is kept awake through a step of hours`() {
        val look = PendingIntent.getForegroundService(app, 0, TrainingService.intent(app, TrainingService.LOOK), PendingIntent.FLAG_IMMUTABLE)
        val wakefulness = Wakefulness(app, look)
        wakefulness.train()
        val lock = ShadowPowerManager.getLatestWakeLock()
        repeat(30) {
            Fixtures.advance(6 * 60 * 1000)
            assertTrue("after ${6 * (it + 1)} minutes", lock.isHeld)
        }
        wakefulness.end()
        Fixtures.advance(6 * 60 * 1000)
        assertFalse(lock.isHeld)
    }

    @Test
    fun `a run whose record is torn is listed and can be removed`() {
        val torn = File(app.folders.runs, "torn").also { it.mkdirs() }
        File(torn, "run.json").writeText("{\"version\": 1, \"bun")
        assertEquals(listOf("torn"), app.runs.damaged())
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the damaged run") { Pictures.text(screen.get(), "torn") && Pictures.text(screen.get(), "cannot be read") }
        app.runs.delete("torn")
        assertTrue(app.runs.damaged().isEmpty())
        assertFalse(torn.exists())
        screen.close()
    }
}
